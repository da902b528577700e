"""Tables and figures out of the records: estimates with intervals, tests, and how they are written."""

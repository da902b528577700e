"""The experiments of the paper and beyond it, on labelaug_core: data, methods, runs, records, tables, drawings."""

"""Profiles say which cells there are; one record a cell keeps what its seeds gave; verify runs a cell again."""

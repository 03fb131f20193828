"""Measures of how near one picture is to another: arrays in, numbers out; one file a family."""

"""Measuring codecs against each other: reference encoders, metrics, BD-rates."""

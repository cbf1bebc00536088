"""The demonstration: demo."""




COLUMNS_MAX = 116
"""Wider than this, what belongs together stands too far apart."""

"""Tools for those who write rules: check, compare, try out, explain, and judge the past anew."""

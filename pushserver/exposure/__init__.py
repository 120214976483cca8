"""The record of what was shown to whom."""

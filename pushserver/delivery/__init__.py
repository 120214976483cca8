"""Who gets what and when."""

"""Redis: keys, scripts and what is stored."""

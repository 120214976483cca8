"""The report on the database of exposures: for a terminal, a program, a spreadsheet, and people."""

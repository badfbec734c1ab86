"""A planning row and what it shows: the record, its words, its pictures and videos."""

"""Reading the source: its imports, its use of the texts of exceptions, and of private names of torch."""

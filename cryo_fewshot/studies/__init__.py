"""What goes beyond the tables of the paper: each module a question, with the code that answers it."""

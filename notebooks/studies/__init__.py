"""Studies: what a single page of the book needs and nothing else imports."""

"""Published results: the tables that predictions are compared with, read and checked."""

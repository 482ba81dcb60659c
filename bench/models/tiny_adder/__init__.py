"""The shipped model `tiny-adder`: a checkpoint folder, and the script that trains it."""

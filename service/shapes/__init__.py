"""What takes the fields out of a record, a module for each family of formats; `formats` lists them all."""

"""Tables and pages made from the records of finished runs. Imports no engine and no method."""

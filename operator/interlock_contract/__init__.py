"""What Interlock's programs must agree on: names, documents, formats and rules. The package imports no other one."""

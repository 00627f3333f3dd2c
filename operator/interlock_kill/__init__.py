"""The kill controller: a program that ends the pods of killed Agents, and depends on no other part of Interlock."""

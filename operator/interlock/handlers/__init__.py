"""What kopf calls: a few lines each. The only package that imports kopf."""

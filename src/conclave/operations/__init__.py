"""Administrative operations, declared once for every door."""

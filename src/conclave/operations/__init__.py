"""Administrative operations, declared once: REST, shells, help and documents come from them."""

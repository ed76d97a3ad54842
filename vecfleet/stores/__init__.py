"""One module a store behind one small protocol (`base`). Nothing outside this folder imports a vendor's SDK."""

"""Which photos there are, what is in their files, and how each is read: listing, first bytes, pixels, rows."""

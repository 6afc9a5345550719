"""Photos inside of archives, read in place: `names` says how they are called, `opened` opens what `tar`, `zipped` and `parquet` read."""

"""The ground that every room stands on: errors, files that appear whole, work spread over Dask."""

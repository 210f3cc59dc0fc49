"""What is kept: tables, one store a resource, blobs, migrations. SQL is the truth."""

"""What a user sees: lines, a table, or JSON."""

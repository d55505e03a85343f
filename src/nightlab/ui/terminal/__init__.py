"""What people see: live lines, the log as a table, the closing summary, the chart."""

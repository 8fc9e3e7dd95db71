"""What a build says afterwards: report.json and a self-contained report.html."""

"""What results say: differences beyond the noise."""

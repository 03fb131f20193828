"""What the papers show of their codes and pictures, of a trained codec: numbers and plots."""

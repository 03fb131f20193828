"""Ways to encode more pictures than one machine can, on engines that others have built."""

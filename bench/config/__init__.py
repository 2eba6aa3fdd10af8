"""From words to typed values: what was typed and written, composed, checked, and the identity that it makes."""

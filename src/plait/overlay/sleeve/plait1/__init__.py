"""The format between two plait nodes (docs/protocol/sleeve2.md): pure, but for the optional compiled engine."""

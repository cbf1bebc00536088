"""The world: each adapter reaches one part of it behind a port, and knows no other adapter."""

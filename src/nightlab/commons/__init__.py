"""The commons: where labs exchange findings. Nobody believes one: it is measured again, in one's own box."""

"""Why two faces are similar to an encoder, and what changes its mind: occlusion maps, attacks."""

"""What a smoke has to say, in every form. Pure renderers: none knows pytest or torch."""

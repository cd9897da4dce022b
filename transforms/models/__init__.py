"""What computes the networks: TensorFlow, the reference, or a lighter and faster engine."""

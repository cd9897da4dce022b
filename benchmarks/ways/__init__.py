"""What people would write instead of the job; each module is a program of its own."""

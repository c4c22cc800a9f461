"""Operations that pyinfra does not have: each yields the commands that change a host."""

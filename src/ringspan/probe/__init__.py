"""The BPF side: compile, load, attach in a child process; maps and descriptors in this one."""

"""Reports on a study, made from `cpframe.records` alone: `terminal` prints one."""

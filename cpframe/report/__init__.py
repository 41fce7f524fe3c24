"""Reports on a study, made from `cpframe.records.model` alone: `terminal` prints one."""

#![no_main]

tollgate_fuzz::target!("log-meta");

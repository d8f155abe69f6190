#![no_main]

tollgate_fuzz::target!("forms");

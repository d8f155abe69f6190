//! What goes over the wire and what it means here: each dialect turns its own shapes into the one model and back, and
//! decides nothing else.

pub mod amberflo;

//! The vehicle's side: a reference Primary with its Secondaries (Uptane 2.1.0, 5.4).

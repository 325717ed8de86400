//! Part of Flatview.

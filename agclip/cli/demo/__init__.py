"""`agclip demo`: a recurrent network learns text, with and without clipping."""

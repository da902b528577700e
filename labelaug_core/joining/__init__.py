"""Two datasets of the reader's own: folder and texts read them, draft writes a first label graph, report shows how the
label sets meet, duplicates finds samples that look alike."""

"""From the Hub to disk: choice of files, patience, verification, the record of what came."""

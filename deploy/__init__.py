"""What a server needs beside the flows: automations as code, and the rehearsal that they hold."""

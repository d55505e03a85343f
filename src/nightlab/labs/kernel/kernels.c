/* The genome: the operations of a transformer's block, for rows of REAL numbers (float and double). */

#include <math.h>

/* c (m by n) = a (m by k) times b (k by n). */
void matmul(const REAL *a, const REAL *b, REAL *c, long m, long k, long n)
{
    for (long i = 0; i < m; i++) {
        for (long j = 0; j < n; j++) {
            REAL sum = 0;
            for (long l = 0; l < k; l++)
                sum += a[i * k + l] * b[l * n + j];
            c[i * n + j] = sum;
        }
    }
}

/* Each row's exponentials, divided by their sum. -INFINITY masks a place; a row of nothing else is all zeros. */
void softmax(const REAL *a, REAL *c, long m, long n)
{
    for (long i = 0; i < m; i++) {
        REAL most = -INFINITY, sum = 0;
        for (long j = 0; j < n; j++)
            most = a[i * n + j] > most ? a[i * n + j] : most;
        for (long j = 0; j < n; j++) {
            c[i * n + j] = most == -INFINITY ? 0 : exp(a[i * n + j] - most);
            sum += c[i * n + j];
        }
        for (long j = 0; j < n; j++)
            c[i * n + j] = sum > 0 ? c[i * n + j] / sum : 0;
    }
}

/* Each row over the root of its mean square, times w (n numbers). */
void rmsnorm(const REAL *a, const REAL *w, REAL *c, long m, long n)
{
    for (long i = 0; i < m; i++) {
        double sum = 0;
        for (long j = 0; j < n; j++)
            sum += (double)a[i * n + j] * a[i * n + j];
        for (long j = 0; j < n; j++)
            c[i * n + j] = a[i * n + j] / sqrt(sum / n + 1e-6) * w[j];
    }
}

/* x times the probability that a normal number is below x. */
void gelu(const REAL *a, REAL *c, long m)
{
    for (long i = 0; i < m; i++)
        c[i] = 0.5 * a[i] * (1 + erf(a[i] / sqrt(2.0)));
}
